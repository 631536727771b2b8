"""The provider hashicorp/google, through Google's REST APIs."""
