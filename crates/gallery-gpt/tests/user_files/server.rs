//! Requests as clients send them, and hostile ones.
