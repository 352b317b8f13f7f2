//! What the attribute writes: the trait, and the type that sends its methods through the layer.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::Ident;
use syn::spanned::Spanned;

use crate::repository::{Method, Repository};

pub(crate) fn write(repository: &Repository) -> TokenStream {
    let Repository {
        name,
        error,
        item,
        methods,
    } = repository;
    let (vis, of) = (&item.vis, &item.ident);
    let operations = methods.iter().map(|one| one.signature.ident.to_string());
    let bodies = methods.iter().map(|method| body(of, method));
    let about =
        format!("[`{of}`] behind a layer: on legacy, on new, or on both, as the layer decides.");
    let either = quote!(::changeover::repository::Either<L, N>);
    let bounds = quote! {
        where
            L: #of + ::core::marker::Send + ::core::marker::Sync + 'static,
            N: #of + ::core::marker::Send + ::core::marker::Sync + 'static,
    };
    quote! {
        #item

        #[doc = #about]
        #vis struct #name<L, N>(::changeover::repository::Layered<#either, #error>);

        impl<L, N> #name<L, N> #bounds {
            /// The layer that `builder` describes, around the two repositories.
            ///
            /// # Errors
            ///
            /// When the builder's compare rules cannot be used.
            #vis fn around(
                builder: ::changeover::proxy::Builder<
                    (),
                    ::changeover::repository::Call<#either, #error>,
                    ::changeover::repository::Answer,
                    #error,
                >,
                legacy: L,
                new: N,
            ) -> ::core::result::Result<Self, ::changeover::proxy::Incomplete> {
                let builder = builder.operations([#(#operations),*]);
                ::changeover::repository::Layered::either(builder, legacy, new).map(#name)
            }

            /// The layer's handle: tokens, units of work, the graceful end.
            #[allow(dead_code, reason = "not every application needs it")]
            #vis fn handle(&self) -> ::changeover::proxy::Handle {
                self.0.handle()
            }
        }

        impl<L, N> ::core::clone::Clone for #name<L, N> {
            fn clone(&self) -> Self {
                #name(::core::clone::Clone::clone(&self.0))
            }
        }

        impl<L, N> ::core::fmt::Debug for #name<L, N> #bounds {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<L, N> #of for #name<L, N> #bounds {
            #(#bodies)*
        }
    }
}

fn body(of: &Ident, method: &Method) -> TokenStream {
    let Method {
        signature,
        arguments,
        answer,
        operation,
        shown,
    } = method;
    let name = &signature.ident;
    // The operation may use its arguments up; the method needs them after it.
    let used = arguments
        .iter()
        .filter(|one| mentions(operation.clone(), one));
    // What the layer refuses of a type is told where the type stands.
    let send = match shown {
        Some(_) => format_ident!("insert", span = at(answer)),
        None => format_ident!("call", span = at(answer)),
    };
    let again = arguments.iter().map(|one| {
        let again = quote_spanned!(at(one)=> ::changeover::repository::again(&#one));
        quote!(let #one = #again;)
    });
    let shown = shown.iter();
    quote! {
        #signature {
            let __operation = {
                #(let #used = ::changeover::repository::again(&#used);)*
                #operation
            };
            self.0.#send(__operation, move |__on| {
                #(#again)*
                ::std::boxed::Box::pin(async move {
                    let __answer: ::core::result::Result<#answer, _> = match __on {
                        ::changeover::repository::Either::Legacy(__on) => {
                            #of::#name(__on #(, #arguments)*).await
                        }
                        ::changeover::repository::Either::New(__on) => {
                            #of::#name(__on #(, #arguments)*).await
                        }
                    };
                    __answer
                })
            } #(, #shown)*).await
        }
    }
}

/// The place of what the trait says, for a name of ours.
fn at(said: impl Spanned) -> Span {
    Span::call_site().located_at(said.span())
}

/// Whether a name stands anywhere in these tokens.
fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(one) => one == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}
