//! How much of an application the layer changes, and the worker that an application runs itself.

mod changed_lines;
mod running;
