"""Small real applications that use Oban. Run them from the root of the repository."""
