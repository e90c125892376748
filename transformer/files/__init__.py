"""Reading and writing networks. Nothing that is read may run."""
