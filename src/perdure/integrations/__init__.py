"""perdure within other people's trainers."""
