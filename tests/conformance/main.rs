//! Mezzo held against what Mesos is: its schema, its bytes, its JSON, and a client that was written for it.
//!
//! | module | what it holds Mezzo to |
//! |---|---|
//! | `schema` | every message, field, default and enum value of Mesos' v1 API, as a table |
//! | `vectors` | each call and event in both encodings, byte for byte |
//! | `pymesos` | a client from PyPI, and what it and the daemons say (`transcript`, `wiretap`) |
//!
//! The tables and vectors are facts about Mesos' interface, made with Google's protobuf for Python from Mesos'
//! own `.proto` files (see `README.md` beside this file); nothing of Mezzo took part in it.

mod pymesos;
mod schema;
mod transcript;
mod vectors;
mod wiretap;
