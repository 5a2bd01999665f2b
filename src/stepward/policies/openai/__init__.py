"""The parts of the HTTP policy: the connection, the request bodies, and reading what a server wrote."""
