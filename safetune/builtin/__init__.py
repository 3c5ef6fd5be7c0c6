"""Our own plugins, without privileges: everything else reaches them by name."""
