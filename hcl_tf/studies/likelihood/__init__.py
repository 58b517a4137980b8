"""How likely the targets are under a system with a latent variable, whatever z: an estimate by importance sampling."""
