"""The service for users: sessions, GraphQL and a proxy in front of the control plane. No database."""
