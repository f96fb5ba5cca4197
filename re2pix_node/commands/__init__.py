"""The faces of `re2pix X`: arguments in, lines and exit codes out."""
