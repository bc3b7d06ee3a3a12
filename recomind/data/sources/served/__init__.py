"""`data=served`: what a service decided and what came of it, as the next round's logs."""
