"""Model cards: what training knows (`facts`), as Markdown (`render`), in a file that a person may edit (`document`)."""
