"""The engine with a real journal and real folders, and a service whose answers are chosen."""
