"""What is known: interchange tables, history, decision log, profiles, follows, items, store keys and protocols."""
