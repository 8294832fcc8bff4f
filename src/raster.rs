//! Images: rows of numbers as tiles, the filters of a model, and sheets of samples.
//!
//! Arithmetic is in `f32`, as in NumPy for `f32` arrays. A scaled tile is (x - min)·(1/(max - min + 1e-8)), and a
//! pixel is 255 times that, truncated to an integer. So the brightest pixel of a tile is 255, or 254 if rounding makes the quotient
//! slightly less than 1. Values outside of [0, 1], which only unscaled tiles can have, are clamped; the tutorial's code wraps them
//! around, so that the darkest values become the brightest.

use crate::{
    error::{Error, Result},
    names::names,
    rbm::RbmRef,
};

/// Prevents a division by 0 for a constant image.
const EPSILON: f32 = 1e-8;
/// The greatest number of pixels times channels of an image.
const MAX_VALUES: usize = 1 << 28;

/// A number of one channel of a pixel: `u8`, or `f32` within [0, 1].
pub trait Pixel: Copy + sealed::Sealed {
    /// Black, or a transparent pixel of the alpha channel.
    const ZERO: Self;
    /// An opaque pixel of the alpha channel.
    const OPAQUE: Self;
    /// Converts a number, which is within [0, 1] if the tile is scaled.
    fn from_unit(x: f32) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

impl Pixel for u8 {
    const ZERO: Self = 0;
    const OPAQUE: Self = 255;

    fn from_unit(x: f32) -> Self {
        // The conversion truncates, clamps, and maps NaN to 0.
        (255.0 * x) as u8
    }
}

impl Pixel for f32 {
    const ZERO: Self = 0.0;
    const OPAQUE: Self = 1.0;

    /// x, unchanged.
    fn from_unit(x: f32) -> Self {
        x
    }
}

/// An image: height × width × channels, row-major, with 1 channel (grey) or 4 (red, green, blue, alpha).
#[derive(Clone, Debug, PartialEq)]
pub struct Raster<T> {
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<T>,
}

impl<T: Pixel> Raster<T> {
    fn new(height: Option<usize>, width: Option<usize>, channels: usize, fill: T) -> Result<Self> {
        let len = |h: usize, w: usize| h.checked_mul(w)?.checked_mul(channels).filter(|&n| n > 0 && n <= MAX_VALUES);
        let sizes = height.zip(width).and_then(|(h, w)| len(h, w).map(|n| (h, w, n)));
        let Some((height, width, n)) = sizes else {
            let text = |n: Option<usize>| n.map_or("more than can be counted".into(), |n| n.to_string());
            return Err(Error::Argument {
                what: "picture",
                expected: format!("between 1 and {MAX_VALUES} values"),
                found: format!("{} × {} pixels", text(height), text(width)),
            });
        };
        Ok(Self { height, width, channels, values: vec![fill; n] })
    }

    /// The number of pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of channels, 1 or 4.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All numbers, height × width × channels.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Draws an image of height × width with its upper left corner at `at`.
    fn draw(&mut self, image: &[f32], width: usize, at: (usize, usize), channel: usize) {
        for (y, line) in image.chunks_exact(width).enumerate() {
            let first = (at.0 + y) * self.width + at.1;
            for (x, &value) in line.iter().enumerate() {
                self.values[(first + x) * self.channels + channel] = T::from_unit(value);
            }
        }
    }
}

/// The layout of rows as tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Height and width in pixels of the image in each row of numbers.
    pub img_shape: (usize, usize),
    /// The number of tiles from top to bottom and from left to right.
    pub tile_shape: (usize, usize),
    /// The number of pixels between tiles, vertically and horizontally.
    pub tile_spacing: (usize, usize),
    /// Scales each tile separately to [0, 1].
    pub scale_rows_to_unit_interval: bool,
}

impl Tiling {
    /// Scaled tiles without space between them.
    pub fn new(img_shape: (usize, usize), tile_shape: (usize, usize)) -> Self {
        Self { img_shape, tile_shape, tile_spacing: (0, 0), scale_rows_to_unit_interval: true }
    }

    /// The same layout with one pixel between tiles.
    pub fn spaced(self) -> Self {
        Self { tile_spacing: (1, 1), ..self }
    }

    /// An image for the tiles: (H + Hs)·R - Hs by (W + Ws)·C - Ws.
    fn canvas<T: Pixel>(&self, channels: usize) -> Result<Raster<T>> {
        let side =
            |image: usize, tiles: usize, space: usize| image.checked_add(space)?.checked_mul(tiles)?.checked_sub(space);
        Raster::new(
            side(self.img_shape.0, self.tile_shape.0, self.tile_spacing.0),
            side(self.img_shape.1, self.tile_shape.1, self.tile_spacing.1),
            channels,
            T::ZERO,
        )
    }

    /// The number of values of the image in a row.
    fn units(&self) -> Result<usize> {
        let units = self.img_shape.0.checked_mul(self.img_shape.1).filter(|&units| units > 0);
        units.ok_or_else(|| Error::Argument {
            what: "img_shape",
            expected: "at least one pixel".into(),
            found: format!("{:?}", self.img_shape),
        })
    }

    fn draw<T: Pixel>(&self, raster: &mut Raster<T>, rows: &[f32], channel: usize) -> Result<()> {
        let units = self.units()?;
        if !rows.len().is_multiple_of(units) {
            let expected = rows.len().div_ceil(units) * units;
            return Err(Error::Length { what: "rows", expected, found: rows.len() });
        }
        let ((height, width), (down, across), spacing) = (self.img_shape, self.tile_shape, self.tile_spacing);
        let mut image = Vec::with_capacity(units);
        for (tile, row) in rows.chunks_exact(units).take(down * across).enumerate() {
            image.clear();
            image.extend_from_slice(row);
            if self.scale_rows_to_unit_interval {
                scale_to_unit_interval(&mut image);
            }
            let at = (tile / across * (height + spacing.0), tile % across * (width + spacing.1));
            raster.draw(&image, width, at, channel);
        }
        Ok(())
    }
}

/// x ← (x - min)·(1/(max - min + 1e-8)): the least becomes 0, the greatest about 1, and equal numbers all become 0.
pub fn scale_to_unit_interval(values: &mut [f32]) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().map(|x| x - min).fold(0.0, f32::max);
    let factor = 1.0 / (max + EPSILON);
    for x in values {
        *x = (*x - min) * factor;
    }
}

/// Draws rows of numbers as tiles of a grey image; tile (r, c) shows row r·C + c.
///
/// `rows`: any number of rows of H·W values. Tiles without a row stay black; rows beyond R·C are ignored.
///
/// ```
/// use harmonium::raster::{Tiling, tile_raster_images};
///
/// // Two images of 1 × 2 pixels, one below the other.
/// let image = tile_raster_images::<u8>(&[0.0, 1.0, 3.0, 2.0], &Tiling::new((1, 2), (2, 1)))?;
/// assert_eq!((image.height(), image.width(), image.channels()), (2, 2, 1));
/// assert_eq!(image.values(), [0, 255, 255, 0]);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] if the values are not a whole number of rows, [`Error::Argument`] if images have no pixels, or the
/// result has none or more than 2^28.
pub fn tile_raster_images<T: Pixel>(rows: &[f32], tiling: &Tiling) -> Result<Raster<T>> {
    let mut raster = tiling.canvas(1)?;
    tiling.draw(&mut raster, rows, 0)?;
    Ok(raster)
}

/// The same in colour: red, green, blue and alpha, each tiled and scaled separately. Without rows, a colour is 0
/// everywhere and alpha is opaque everywhere.
///
/// # Errors
/// Those of [`tile_raster_images`].
pub fn tile_raster_channels<T: Pixel>(channels: [Option<&[f32]>; 4], tiling: &Tiling) -> Result<Raster<T>> {
    let mut raster = tiling.canvas(4)?;
    for (channel, rows) in channels.into_iter().enumerate() {
        match rows {
            Some(rows) => tiling.draw(&mut raster, rows, channel)?,
            None if channel == 3 => raster.values.iter_mut().skip(3).step_by(4).for_each(|x| *x = T::OPAQUE),
            None => {}
        }
    }
    Ok(raster)
}

/// The mapping from the weights of a hidden unit to grey levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilterScale {
    /// Each tile from its least weight (black) to its greatest (white). Shapes can be compared between tiles, sizes cannot.
    #[default]
    Own,
    /// All tiles from -m (black) to m (white), where m is the greatest |w| shown; 0 is the middle grey, 127.
    Common,
}

names!(FilterScale, "scale", Own = "own", Common = "common");

/// Draws the weights of the first R·C hidden units, each as an image, with one pixel between them. Biases are not drawn.
///
/// ```
/// use harmonium::{Rbm, Shape, raster::{FilterScale, filters}};
///
/// let rbm = Rbm::new(Shape::new(6, 4)?, 123);
/// let image = filters(rbm.view(), (2, 3), (2, 2), FilterScale::Own)?;
/// assert_eq!((image.height(), image.width()), (2 + 1 + 2, 3 + 1 + 3));
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if an image of `img_shape` does not have n_visible pixels, or the result is too large.
pub fn filters(
    rbm: RbmRef<'_>, img_shape: (usize, usize), tile_shape: (usize, usize), scale: FilterScale,
) -> Result<Raster<u8>> {
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let mut tiling = Tiling::new(img_shape, tile_shape).spaced();
    check_image(img_shape, n_visible)?;
    let shown = tile_shape.0.saturating_mul(tile_shape.1).min(n_hidden);
    let mut rows: Vec<f32> = (0..shown).flat_map(|j| rbm.weights().iter().skip(j).step_by(n_hidden)).copied().collect();
    if scale == FilterScale::Common {
        tiling.scale_rows_to_unit_interval = false;
        let most = rows.iter().fold(f32::MIN_POSITIVE, |most, w| most.max(w.abs()));
        // Each term is halved, because the sum of two large weights may overflow.
        rows.iter_mut().for_each(|w| *w = 0.5 + 0.5 * (*w / most));
    }
    tile_raster_images(&rows, &tiling)
}

/// Draws the states of chains over time: one row of tiles for each time, one pixel between tiles, each tile scaled separately.
///
/// `means`: times × chains × H·W. The image has (H + 1)·times + 1 by (W + 1)·chains - 1 pixels, two rows more than the tiles need,
/// as in the tutorial.
///
/// # Errors
/// [`Error::Length`] if the values are not times × chains images, [`Error::Argument`] if the result is too large.
pub fn sample_sheet(means: &[f32], img_shape: (usize, usize), times: usize, chains: usize) -> Result<Raster<u8>> {
    let tiling = Tiling::new(img_shape, (1, chains)).spaced();
    let at_a_time = tiling.units()?.saturating_mul(chains);
    let expected = at_a_time.saturating_mul(times);
    if means.len() != expected {
        return Err(Error::Length { what: "means", expected, found: means.len() });
    }
    let strip: Raster<u8> = tiling.canvas(1)?;
    let height = (strip.height + 1).checked_mul(times).and_then(|h| h.checked_add(1));
    let mut sheet = Raster::new(height, Some(strip.width), 1, 0)?;
    for (time, means) in means.chunks_exact(at_a_time).enumerate() {
        let strip: Raster<u8> = tile_raster_images(means, &tiling)?;
        let first = time * (strip.height + 1) * strip.width;
        sheet.values[first..first + strip.values.len()].copy_from_slice(&strip.values);
    }
    Ok(sheet)
}

/// Checks that an image of this height and width has `units` pixels.
pub(crate) fn check_image(img_shape: (usize, usize), units: usize) -> Result<()> {
    let (height, width) = img_shape;
    if height.checked_mul(width) == Some(units) {
        return Ok(());
    }
    Err(Error::Argument {
        what: "img_shape",
        expected: format!("height × width of {units} pixels"),
        found: format!("{height} × {width}"),
    })
}

/// Writes an image as a PNG file, whole or not at all: grey, or colour with alpha. Equal images give equal files.
///
/// # Errors
/// [`Error::File`] with the operating system's message.
#[cfg(feature = "png")]
pub fn write_png(raster: &Raster<u8>, path: &std::path::Path) -> Result<()> {
    crate::storage::write_atomically(path, |file| {
        // An image has at most 2^28 values, so its sides fit.
        let mut encoder = png::Encoder::new(file, raster.width as u32, raster.height as u32);
        encoder.set_color(if raster.channels == 4 { png::ColorType::Rgba } else { png::ColorType::Grayscale });
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&raster.values)?;
        Ok(writer.finish()?)
    })
}
