//! A safe wrapper of libjpeg-turbo's decompressor.

#![allow(unsafe_code, reason = "libjpeg is C")]

use std::{
    ffi::{c_int, c_ulong},
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
};

use mozjpeg_sys::{
    J_COLOR_SPACE, JWRN_JPEG_EOF, jpeg_common_struct, jpeg_component_info, jpeg_create_decompress,
    jpeg_decompress_struct, jpeg_destroy_decompress, jpeg_error_mgr, jpeg_finish_decompress,
    jpeg_mem_src, jpeg_read_header, jpeg_read_scanlines, jpeg_start_decompress, jpeg_std_error,
};

use super::idct;
use crate::fault::Fault;

/// An error of libjpeg, unwinding through the C code, which is built for that.
struct Failure(String);

/// libjpeg's error manager, and whether libjpeg read beyond the end of the data. It then continues
/// with an end-of-image marker of its own; Pillow rejects the file.
#[repr(C)]
struct Errors {
    manager: jpeg_error_mgr,
    ran_out: bool,
}

extern "C-unwind" fn fail(info: &mut jpeg_common_struct) {
    let buffer = [0_u8; 80];
    // SAFETY: the manager is ours, and its formatter writes at most 80 bytes into the buffer it is
    // given.
    let text = unsafe {
        let mut buffer = std::cell::UnsafeCell::new(buffer);
        if let Some(format) = (*info.err).format_message {
            format(info, &*buffer.get());
        }
        *buffer.get_mut()
    };
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text).into_owned();
    // Unwinds without the panic hook: nothing is printed.
    resume_unwind(Box::new(Failure(text)))
}

extern "C-unwind" fn warn(info: &mut jpeg_common_struct, level: c_int) {
    // SAFETY: every manager that this function is given to is the first field of an `Errors`.
    let errors = unsafe { &mut *info.err.cast::<Errors>() };
    if level < 0 && errors.manager.msg_code == JWRN_JPEG_EOF as c_int {
        errors.ran_out = true;
    }
}

/// A JPEG decompressor.
pub(super) struct Libjpeg<'a> {
    /// Owned. Both are accessed through these pointers only, because the C code keeps them too.
    info: *mut jpeg_decompress_struct,
    errors: *mut Errors,
    started: bool,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Libjpeg<'a> {
    /// Reads the header.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        // SAFETY: all zeros are a value of these structures of numbers, pointers and optional
        // functions.
        let (info, errors) = unsafe {
            let errors: Errors = std::mem::zeroed();
            let info: jpeg_decompress_struct = std::mem::zeroed();
            (
                Box::into_raw(Box::new(info)),
                Box::into_raw(Box::new(errors)),
            )
        };
        let mut libjpeg = Self {
            info,
            errors,
            started: false,
            bytes: PhantomData,
        };
        // SAFETY: the managers live as long as the decompressor, and the bytes longer.
        libjpeg.call(|info| unsafe {
            let manager = &raw mut (*errors).manager;
            jpeg_std_error(&mut *manager);
            (*manager).error_exit = Some(fail);
            (*manager).emit_message = Some(warn);
            (*info).common.err = manager;
            jpeg_create_decompress(info);
            jpeg_mem_src(&mut *info, bytes.as_ptr(), bytes.len() as c_ulong);
            jpeg_read_header(&mut *info, 1);
        })?;
        Ok(libjpeg)
    }

    /// Calls C code and catches its errors.
    fn call<T>(
        &mut self,
        libjpeg: impl FnOnce(*mut jpeg_decompress_struct) -> T,
    ) -> Result<T, Fault> {
        let info = self.info;
        catch_unwind(AssertUnwindSafe(|| libjpeg(info))).map_err(|panic| {
            match panic.downcast::<Failure>() {
                Ok(_) if self.ran_out() => Fault::Truncated,
                Ok(failure) => Fault::Broken(failure.0),
                Err(panic) => resume_unwind(panic),
            }
        })
    }

    /// Whether libjpeg read beyond the end of the data.
    pub(super) fn ran_out(&self) -> bool {
        // SAFETY: the pointer is ours, and no C code runs.
        unsafe { (*self.errors).ran_out }
    }

    fn info(&self) -> &jpeg_decompress_struct {
        // SAFETY: the pointer is ours, and no C code runs.
        unsafe { &*self.info }
    }

    /// Width and height.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.info().image_width, self.info().image_height)
    }

    pub(super) fn components(&self) -> &[jpeg_component_info] {
        let info = self.info();
        if info.comp_info.is_null() {
            return &[];
        }
        // SAFETY: libjpeg's array has that many components.
        unsafe { std::slice::from_raw_parts(info.comp_info, info.num_components as usize) }
    }

    /// Starts to decompress to the colour space `to`; `from` is that of the file, if the file does
    /// not tell.
    pub(super) fn start(
        &mut self,
        from: Option<J_COLOR_SPACE>,
        to: J_COLOR_SPACE,
    ) -> Result<(), Fault> {
        // SAFETY: the pointer is ours, and the head has been read.
        self.call(|info| unsafe {
            if let Some(from) = from {
                (*info).jpeg_color_space = from;
            }
            (*info).out_color_space = to;
            jpeg_start_decompress(&mut *info);
            use_vector_idct(info);
        })?;
        self.started = true;
        match self.ran_out() {
            true => Err(Fault::Truncated),
            false => Ok(()),
        }
    }

    /// Decodes the next row.
    ///
    /// # Panics
    /// If decompression was not started, or the row has another length.
    pub(super) fn row(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        assert!(self.started, "start comes before the rows");
        let info = self.info();
        let samples = info.output_width as usize * info.output_components as usize;
        assert_eq!(row.len(), samples, "samples of a row");
        let mut to = row.as_mut_ptr();
        // SAFETY: one row of as many samples as libjpeg writes.
        let read = self.call(|info| unsafe { jpeg_read_scanlines(&mut *info, &raw mut to, 1) })?;
        match read == 0 || self.ran_out() {
            true => Err(Fault::Truncated),
            false => Ok(()),
        }
    }

    /// Reads up to the end-of-image marker, if there is one.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        // SAFETY: the pointer is ours.
        let finished = self.call(|info| unsafe { jpeg_finish_decompress(&mut *info) });
        match finished {
            // All rows are complete: data missing after them do not matter.
            Err(Fault::Truncated) => Ok(()),
            finished => finished.map(|_| ()),
        }
    }
}

impl Drop for Libjpeg<'_> {
    fn drop(&mut self) {
        // SAFETY: both are ours, and nothing uses them any more. A decompressor that was never
        // created is all zeros, which libjpeg takes for one without memory.
        unsafe {
            jpeg_destroy_decompress(&mut *self.info);
            drop(Box::from_raw(self.info));
            drop(Box::from_raw(self.errors));
        }
    }
}

type Method = unsafe extern "C-unwind" fn(
    *mut jpeg_decompress_struct,
    *mut jpeg_component_info,
    *mut i16,
    *mut *mut u8,
    u32,
);

unsafe extern "C-unwind" {
    /// libjpeg's implementation in C.
    fn jpeg_idct_islow(
        info: *mut jpeg_decompress_struct,
        component: *mut jpeg_component_info,
        coefficients: *mut i16,
        rows: *mut *mut u8,
        column: u32,
    );
}

/// libjpeg's inverse transforms of each component (`jpegint.h`).
#[repr(C)]
struct InverseTransforms {
    start_pass: Option<unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct)>,
    methods: [Option<Method>; 10],
}

/// Replaces libjpeg's transform by [`idct::islow`]. Built without an assembler, libjpeg's computes
/// in 32 bits and so differs from libjpeg-turbo's vector code, which Pillow uses, where damaged
/// data overflow 16 bits.
///
/// # Safety
/// `info` is a decompressor that has been started.
unsafe fn use_vector_idct(info: *mut jpeg_decompress_struct) {
    // The field is private to the binding: the fourth pointer from the end (this is why its version
    // is pinned).
    let pointers = size_of::<jpeg_decompress_struct>() / size_of::<*mut ()>();
    // SAFETY: within the structure, which is one of pointers at its end.
    let transforms = unsafe { *info.cast::<*mut InverseTransforms>().add(pointers - 4) };
    // SAFETY: libjpeg allocates it when it starts.
    let Some(transforms) = (unsafe { transforms.as_mut() }) else {
        return;
    };
    for method in &mut transforms.methods {
        if let Some(own) = method
            && ptr::fn_addr_eq(*own, jpeg_idct_islow as Method)
        {
            *method = Some(islow);
        }
    }
}

/// [`idct::islow`] as libjpeg calls it.
unsafe extern "C-unwind" fn islow(
    _info: *mut jpeg_decompress_struct,
    component: *mut jpeg_component_info,
    coefficients: *mut i16,
    rows: *mut *mut u8,
    column: u32,
) {
    // SAFETY: libjpeg gives a block of coefficients, a component, and eight rows that have room
    // from that column on. A component without any data has no table.
    unsafe {
        let table = (*component).quant_table.as_ref();
        let zeros = [0; 64];
        let table = table.map_or(&zeros, |table| &table.quantval);
        let block = idct::islow(&*coefficients.cast(), table);
        for (nth, levels) in block.iter().enumerate() {
            let row = (*rows.add(nth)).add(column as usize);
            ptr::copy_nonoverlapping(levels.as_ptr(), row, 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without overflow our transform equals libjpeg's; and it is the one in use.
    #[test]
    fn our_transform_is_used() {
        let file = include_bytes!("../../../tests/pictures/corpus/jpeg_17x16_2_0_95.jpg");
        let mut libjpeg = Libjpeg::new(file).unwrap();
        libjpeg.start(None, J_COLOR_SPACE::JCS_RGB).unwrap();
        let pointers = size_of::<jpeg_decompress_struct>() / size_of::<*mut ()>();
        // SAFETY: as in `use_vector_idct`.
        let methods = unsafe {
            (**libjpeg
                .info
                .cast::<*mut InverseTransforms>()
                .add(pointers - 4))
            .methods
        };
        for method in &methods[..3] {
            assert!(method.is_some_and(|method| ptr::fn_addr_eq(method, islow as Method)));
        }
    }
}
