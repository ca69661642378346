"""Files and folders in stores (``s3://``, ``https://``, ...): URLs, reading by ranges, writing whole."""
