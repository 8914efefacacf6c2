"""The bottom layer, standard library only: errors, the bundle format, profiles, host facts."""
