"""The command `mobilenets`: one thin file a verb."""
