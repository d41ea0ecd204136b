"""Ray: starting or joining it, handing rows to it, and what it exports while a run goes on."""
