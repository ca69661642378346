"""Images for training: the protocol of phases, decoding, and the store of decoded images."""
