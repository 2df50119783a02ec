"""Where jobs are kept: SQL tables, and a twin in memory."""
