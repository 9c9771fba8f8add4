"""What a network is made of and costs, read from the network itself."""
