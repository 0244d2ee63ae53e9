"""From the sources of chapters to the pages of the book."""
