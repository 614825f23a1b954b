"""SCIM 2.0 (RFC 7643, RFC 7644): what an identity provider sees of people and teams."""
