"""Reference models of other papers, one file each."""
