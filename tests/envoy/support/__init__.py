"""What the end-to-end tests are made of: a real Envoy, raw clients, and servers that can misbehave."""
