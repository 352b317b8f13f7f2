//! What the types of a repository's methods must be, in the words of whoever writes one.

use changeover_proxy::Refused;
use serde::Serialize;

/// An error that a call through a layer may end with.
///
/// There is nothing to implement but `From<Refused>`: every such type that can be sent and owns what it
/// holds is one.
#[diagnostic::on_unimplemented(
    message = "calls through a layer cannot end with `{Self}`: the layer's own refusals have to become one",
    label = "not made of `changeover::proxy::Refused`, or not `Send + 'static`",
    note = "write `impl From<changeover::proxy::Refused> for {Self}`; with thiserror, add a variant `Refused(#[from] changeover::proxy::Refused)`"
)]
pub trait CallError: From<Refused> + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<E: From<Refused> + Send + 'static> CallError for E {}

/// An answer that a layer can compare.
///
/// There is nothing to implement but [`Serialize`]: every such type that can be sent and owns what it
/// holds is one.
#[diagnostic::on_unimplemented(
    message = "a layer cannot compare answers of type `{Self}`: they have to be serialisable",
    label = "not `serde::Serialize`, or not `Send + 'static`",
    note = "write `#[derive(serde::Serialize)]` over it, or answer a type of your own that has it"
)]
pub trait Comparable: Serialize + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Send + 'static> Comparable for T {}

/// An argument that both repositories can be given.
///
/// There is nothing to implement but [`Clone`].
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot be given to both repositories: it has to be `Clone`",
    label = "not `Clone`, or not `Send + Sync + 'static`",
    note = "write `#[derive(Clone)]` over it, or take an `Arc<_>` of it"
)]
pub trait Argument: Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<A: Clone + Send + Sync + 'static> Argument for A {}

/// The argument once more, for the macros.
#[doc(hidden)]
pub fn again<A: Argument>(argument: &A) -> A {
    argument.clone()
}
