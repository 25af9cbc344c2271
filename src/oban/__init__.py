"""Job orchestration on the PostgreSQL an application already has."""
