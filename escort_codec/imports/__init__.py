"""Other data as a plain data folder: Hugging Face, parquet, WebDataset, archives, torchvision, PyCIL."""
