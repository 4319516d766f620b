"""The store on SQLite, one story a module; `store` puts them together."""
