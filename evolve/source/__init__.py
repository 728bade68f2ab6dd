"""Program text: files and their evolvable blocks, and what follows from source alone."""
