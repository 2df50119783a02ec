"""The steps from one schema of the job store to the next, run by Alembic."""
