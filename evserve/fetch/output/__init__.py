"""Where results and bodies go: rows, files, an archive, and the journal that remembers them."""
