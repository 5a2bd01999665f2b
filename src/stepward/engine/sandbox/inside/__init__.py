"""What runs outside stepward's own process: the keeper, the monitor and the warden of untrusted programs. Standard library only; nothing of stepward is
imported here except this package's own modules, so that it starts in milliseconds and holds none of the caller's memory."""
