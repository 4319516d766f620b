"""Everything one account keeps on this machine for one server, encrypted."""
