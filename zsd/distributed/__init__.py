"""The only rooms that know Ray: each job of the command line as it runs on a cluster."""
