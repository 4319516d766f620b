"""The page: a local web client. The core runs here, and a browser on this machine draws what it says."""
