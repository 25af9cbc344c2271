"""A web application that enqueues in the transaction of the request."""
