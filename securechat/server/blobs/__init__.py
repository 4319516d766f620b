"""The bytes of blobs: where they lie, how they come and go, and what takes away those that nobody needs any more."""
