"""Where URLs come from: a command line, files, standard input, sitemaps."""
