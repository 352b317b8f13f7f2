//! How much of an application the layer changes, the worker that an application runs itself, and
//! the guide of a newcomer.

mod changed_lines;
mod guide;
mod running;

/// The guide's program, for its contract test. The program itself is run as an example.
#[path = "../../examples/first_shadow_read/main.rs"]
#[expect(dead_code, reason = "nothing calls its `main` here")]
mod first_shadow_read;
