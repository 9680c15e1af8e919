//! Request, Outcome and RequestError: the one door
#![deny(missing_docs)]
