"""What a network is made of and costs, and how far it is the published one: counts, the audit, published figures."""
