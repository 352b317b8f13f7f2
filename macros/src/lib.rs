//! [`layered`](macro@layered), the attribute of `changeover::layered`. Its manual is there.

mod repository;
mod write;

use proc_macro::TokenStream;
use syn::parse_macro_input;

use repository::{Named, Repository};

/// Puts a layer behind a trait of `async` methods: writes a type that has the trait's methods and
/// sends them through the layer.
///
/// ```text
/// #[changeover::layered(MovingListings)]
/// pub trait Listings {
///     #[call(read(id))]
///     async fn title(&self, id: i64) -> Result<Option<String>, Error>;
///     #[call(list().routed_by(seller.to_string()).keyed_by(["id"]))]
///     async fn of_seller(&self, seller: i64) -> Result<Vec<Listing>, Error>;
///     #[call(insert(), |id| *id)]
///     async fn create(&self, title: String) -> Result<i64, Error>;
/// }
/// ```
///
/// # Rules
///
/// 1. `#[call(…)]` says what a method touches: one of `Operation`'s constructors without the name
///    (`read`, `list`, `write`, `insert`, `bulk`, `bulk_all`), and its other methods after it. Where
///    the database generates the key, a closure says which one the answer shows.
/// 2. A method with a body and without `#[call]` stays as it is.
/// 3. Arguments are owned and `Clone`, answers are `Serialize`: a read may be asked of both sides.
/// 4. All methods have one error type `E: From<Refused>`, the second type of their `Result`; with an
///    alias of one type, say it: `#[layered(MovingListings, error = Error)]`.
/// 5. The trait's futures become `Send`: implementations are written as `async fn` all the same.
///
/// # Errors
///
/// What cannot be layered is an error of the compiler, at its place, that says what to write.
#[proc_macro_attribute]
pub fn layered(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let named = parse_macro_input!(attribute as Named);
    let item = parse_macro_input!(item as syn::ItemTrait);
    match Repository::read(named, item) {
        Ok(repository) => write::write(&repository).into(),
        Err(error) => error.to_compile_error().into(),
    }
}
