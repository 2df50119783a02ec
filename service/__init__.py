"""The service: jobs, HTTP, page, command line, client."""
