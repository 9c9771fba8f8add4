"""Images in WebDataset shards, tar files of many images each: written, found, counted, and streamed to training."""
