"""What tests of several folders share: waiting on conditions, and the real services they run against."""
