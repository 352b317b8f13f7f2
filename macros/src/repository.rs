//! What the attribute is told: the trait, and what each of its methods touches.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, Expr, FnArg, GenericArgument, Ident, ItemTrait, Pat, PathArguments,
    ReceiverKind, ReturnType, Signature, Token, TraitItem, TraitItemFn, Type,
};

/// `Operation`'s constructors.
const KINDS: [&str; 6] = ["read", "list", "write", "insert", "bulk", "bulk_all"];
const EXAMPLES: &str = "#[call(read(id))], #[call(write([id]))], #[call(insert(), |answer| answer.id)], \
     #[call(list().routed_by(tenant.to_string()))] or #[call(bulk(tenant.to_string()))]";

/// The arguments of the attribute.
pub(crate) struct Named {
    pub(crate) name: Ident,
    error: Option<Type>,
}

impl Parse for Named {
    fn parse(input: ParseStream<'_>) -> syn::Result<Named> {
        if input.is_empty() {
            return Err(input.error("name the type to be written: #[layered(MovingListings)]"));
        }
        let name = input.parse()?;
        let mut error = None;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
            let option: Ident = input.parse()?;
            if option != "error" {
                let message = "no such option: write `error = TheErrorType`, or nothing";
                return Err(Error::new(option.span(), message));
            }
            input.parse::<Token![=]>()?;
            error = Some(input.parse()?);
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(Named { name, error })
    }
}

/// A trait that can be layered.
pub(crate) struct Repository {
    pub(crate) name: Ident,
    pub(crate) error: Type,
    /// The trait as it will stand.
    pub(crate) item: ItemTrait,
    pub(crate) methods: Vec<Method>,
}

/// A method that goes through the layer.
pub(crate) struct Method {
    pub(crate) signature: Signature,
    /// The arguments' names, without `self`.
    pub(crate) arguments: Vec<Ident>,
    pub(crate) answer: Type,
    /// The operation, an expression over the arguments.
    pub(crate) operation: TokenStream,
    /// The closure that says which key an answer shows.
    pub(crate) shown: Option<Expr>,
}

impl Repository {
    pub(crate) fn read(named: Named, mut item: ItemTrait) -> syn::Result<Repository> {
        if !item.generics.params.is_empty() {
            let message = "a trait with generics cannot be layered: write it for one type";
            return Err(Error::new(item.generics.span(), message));
        }
        let mut error = named.error;
        let given = error.is_some();
        let mut methods = Vec::new();
        for part in &mut item.items {
            let TraitItem::Fn(function) = part else {
                let message = "only methods can be layered: move this to another trait";
                return Err(Error::new(part.span(), message));
            };
            let Some((method, own)) = Method::read(function)? else {
                continue;
            };
            match (&error, own) {
                (_, None) if !given => {
                    let message = "the error type is not to be seen here: say #[layered(…, error = TheErrorType)]";
                    return Err(Error::new(function.sig.output.span(), message));
                }
                (Some(error), Some(own)) if !given && !same(error, &own) => {
                    let message = "all methods must have the same error type: the layer's own refusals become one";
                    return Err(Error::new(own.span(), message));
                }
                (None, own) => error = own,
                _ => {}
            }
            function.sig = promised(&method.signature);
            methods.push(method);
        }
        let Some(error) = error else {
            let message = format!("no method says what it touches: {EXAMPLES}");
            return Err(Error::new(item.ident.span(), message));
        };
        Ok(Repository {
            name: named.name,
            error,
            item,
            methods,
        })
    }
}

impl Method {
    /// The method, and its own error type; `None` for one with a body of its own. Takes the
    /// attribute off.
    fn read(function: &mut TraitItemFn) -> syn::Result<Option<(Method, Option<Type>)>> {
        let Some(at) = function.attrs.iter().position(is_call) else {
            if function.default.is_some() {
                return Ok(None);
            }
            let name = &function.sig.ident;
            let message = format!("say what `{name}` touches: {EXAMPLES}");
            return Err(Error::new(name.span(), message));
        };
        let attribute = function.attrs.remove(at);
        if let Some(body) = &function.default {
            let message = "a method goes through the layer or has a body, not both";
            return Err(Error::new(body.span(), message));
        }
        let signature = function.sig.clone();
        if signature.asyncness.is_none() {
            let message = "write `async fn`: the layer may have to ask somebody first";
            return Err(Error::new(signature.fn_token.span(), message));
        }
        if !signature.generics.params.is_empty() {
            let message = "a generic method cannot be layered: write it for one type";
            return Err(Error::new(signature.generics.span(), message));
        }
        let arguments = arguments(&signature)?;
        let (answer, error) = result(&signature.output)?;
        let (operation, shown) = call(&attribute, &signature.ident)?;
        let method = Method {
            signature,
            arguments,
            answer,
            operation,
            shown,
        };
        Ok(Some((method, error)))
    }
}

fn is_call(attribute: &Attribute) -> bool {
    attribute.path().is_ident("call")
}

fn arguments(signature: &Signature) -> syn::Result<Vec<Ident>> {
    let mut arguments = Vec::new();
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Receiver(receiver))
            if matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) => {}
        _ => {
            let message = "take `&self`: calls run at the same time";
            return Err(Error::new(signature.ident.span(), message));
        }
    }
    for input in inputs {
        let FnArg::Typed(argument) = input else {
            continue;
        };
        if let Type::Reference(borrowed) = &*argument.ty {
            let message =
                "take it owned (`String`, `Vec<_>`, `Arc<_>`): the call may outlive its caller";
            return Err(Error::new(borrowed.span(), message));
        }
        match &*argument.pat {
            Pat::Ident(name) if name.subpat.is_none() => arguments.push(name.ident.clone()),
            other => return Err(Error::new(other.span(), "give the argument a plain name")),
        }
    }
    Ok(arguments)
}

/// The two types of a `Result`, the second one if it is there.
fn result(output: &ReturnType) -> syn::Result<(Type, Option<Type>)> {
    let wrong = || {
        Error::new(
            output.span(),
            "answer a `Result`: the layer itself may refuse",
        )
    };
    let ReturnType::Type(_, output) = output else {
        return Err(wrong());
    };
    let Type::Path(path) = &**output else {
        return Err(wrong());
    };
    let last = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Result");
    let Some(PathArguments::AngleBracketed(types)) = last.map(|last| &last.arguments) else {
        return Err(wrong());
    };
    let mut types = types.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(one) => Some(one.clone()),
        _ => None,
    });
    let answer = types.next().ok_or_else(wrong)?;
    Ok((answer, types.next()))
}

/// The operation and the closure of `#[call(operation, closure)]`.
fn call(attribute: &Attribute, name: &Ident) -> syn::Result<(TokenStream, Option<Expr>)> {
    let parts = attribute.parse_args_with(Punctuated::<Expr, Token![,]>::parse_terminated)?;
    let mut parts = parts.into_iter();
    let Some(mut operation) = parts.next() else {
        let message = format!("say what `{name}` touches: {EXAMPLES}");
        return Err(Error::new(attribute.span(), message));
    };
    let kind = named(&mut operation, &name.to_string())?;
    let shown = parts.next();
    if let Some(more) = parts.next() {
        return Err(Error::new(
            more.span(),
            "one operation and one closure are all",
        ));
    }
    if kind == "insert" && shown.is_none() {
        let message = "say which key the answer shows: #[call(insert(), |answer| answer.id)]";
        return Err(Error::new(attribute.span(), message));
    }
    if let Some(shown) = shown.as_ref().filter(|_| kind != "insert") {
        let message = "only an insert shows its key afterwards: name the keys in the operation";
        return Err(Error::new(shown.span(), message));
    }
    Ok((operation.into_token_stream(), shown))
}

/// Gives the constructor at the root of a chain of methods its path and the call's name; answers
/// which one it is.
fn named(operation: &mut Expr, name: &str) -> syn::Result<String> {
    let wrong = |at: proc_macro2::Span| {
        let message = format!("begin with one of {}, as in {EXAMPLES}", KINDS.join(", "));
        Error::new(at, message)
    };
    match operation {
        Expr::MethodCall(method) => named(&mut method.receiver, name),
        Expr::Call(call) => {
            let kind = match &*call.func {
                Expr::Path(path) => path.path.get_ident().cloned(),
                _ => None,
            };
            let Some(kind) = kind.filter(|kind| KINDS.iter().any(|known| kind == known)) else {
                return Err(wrong(call.func.span()));
            };
            let path = quote!(::changeover::proxy::Operation::#kind);
            *call.func = syn::parse2(path)?;
            call.args.insert(0, syn::parse2(quote!(#name))?);
            Ok(kind.to_string())
        }
        other => Err(wrong(other.span())),
    }
}

/// The signature without `async`, whose future is `Send`.
fn promised(signature: &Signature) -> Signature {
    let mut promised = signature.clone();
    promised.asyncness = None;
    if let ReturnType::Type(_, answer) = &signature.output {
        promised.output = syn::parse_quote! {
            -> impl ::core::future::Future<Output = #answer> + ::core::marker::Send
        };
    }
    promised
}

fn same(one: &Type, other: &Type) -> bool {
    one.to_token_stream().to_string() == other.to_token_stream().to_string()
}
