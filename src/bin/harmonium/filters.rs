//! `harmonium filters`.

use crate::{Failure, arguments::Filters, console, data};
use harmonium::{Error, model, raster};

pub fn run(options: &Filters) -> Result<(), Failure> {
    let rbm = model::load(&options.model)?;
    let (down, across) = options.tile;
    let sides = data::sides(options.image, None, rbm.shape().n_visible())?;
    let picture = raster::filters(rbm.view(), sides, (down, across)).map_err(|problem| match problem {
        Error::Argument { what: "picture", expected, found } => Error::Argument { what: "--tile", expected, found },
        other => other,
    })?;
    raster::write_png(&picture, &options.out)?;
    let shown = down.saturating_mul(across).min(rbm.shape().n_hidden());
    console::say(&format!(
        "{}: {shown} of {} filters, {} × {} pixels",
        options.out.display(),
        rbm.shape().n_hidden(),
        picture.height(),
        picture.width()
    ));
    Ok(())
}
