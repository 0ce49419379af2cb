"""Lightning modules for learned image compression; `codecs` and `losses` are plain torch."""
