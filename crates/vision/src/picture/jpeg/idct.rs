//! The accurate integer inverse DCT, in the 16 bits of libjpeg-turbo's vector code.
//!
//! After Loeffler, Ligtenberg and Moschytz 1989, as in libjpeg (`jidctint.c`). Without overflow the
//! results are the same; where damaged data overflow, this wraps and saturates like
//! `jidctint-avx2.asm`.

/// Fraction bits of the constants.
const CONST_BITS: u32 = 13;
/// Fraction bits kept between the passes.
const PASS1_BITS: u32 = 2;

const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

/// Eight columns, or rows, side by side.
type Lanes = [i16; 8];

/// Levels of a block of 8x8 pixels, row by row, from its coefficients and their quantizers.
pub(super) fn islow(coefficients: &[i16; 64], quantizers: &[u16; 64]) -> [[u8; 8]; 8] {
    let mut block = [[0; 8]; 8];
    let stored = coefficients.as_chunks::<8>().0.iter();
    let stored = stored.zip(quantizers.as_chunks::<8>().0);
    for (row, (coefficients, quantizers)) in block.iter_mut().zip(stored) {
        for ((value, &coefficient), &quantizer) in row.iter_mut().zip(coefficients).zip(quantizers)
        {
            *value = coefficient.wrapping_mul(quantizer as i16);
        }
    }
    let columns = if coefficients[8..]
        .iter()
        .all(|&coefficient| coefficient == 0)
    {
        [block[0].map(|value| value << PASS1_BITS); 8]
    } else {
        pass::<{ CONST_BITS - PASS1_BITS }>(&block)
    };
    let rows = pass::<{ CONST_BITS + PASS1_BITS + 3 }>(&transposed(&columns));
    transposed(&rows).map(|row| row.map(|value| (value.clamp(-128, 127) + 128) as u8))
}

fn transposed(block: &[Lanes; 8]) -> [Lanes; 8] {
    std::array::from_fn(|row| std::array::from_fn(|column| block[column][row]))
}

/// Transforms each lane and rounds `SHIFT` bits off.
#[inline(always)]
fn pass<const SHIFT: u32>(input: &[Lanes; 8]) -> [Lanes; 8] {
    let mut output = [[0; 8]; 8];
    for lane in 0..8 {
        let [in0, in1, in2, in3, in4, in5, in6, in7] = input.map(|lanes| lanes[lane]);
        let wide = |value: i16| i32::from(value);
        // Even part.
        let [two, six] = [in2, in6].map(wide);
        let even3 = (two * (F_0_541 + F_0_765)).wrapping_add(six * F_0_541);
        let even2 = (two * F_0_541).wrapping_add(six * (F_0_541 - F_1_847));
        let even0 = wide(in0.wrapping_add(in4)) << CONST_BITS;
        let even1 = wide(in0.wrapping_sub(in4)) << CONST_BITS;
        let sums = [
            even0.wrapping_add(even3),
            even1.wrapping_add(even2),
            even1.wrapping_sub(even2),
            even0.wrapping_sub(even3),
        ];
        // Odd part.
        let z3 = wide(in7.wrapping_add(in3));
        let z4 = wide(in5.wrapping_add(in1));
        let [one, three, five, seven] = [in1, in3, in5, in7].map(wide);
        let both =
            |first: i32, second: i32, third: i32| first.wrapping_add(second).wrapping_add(third);
        let odd3 = (z3 * (F_1_175 - F_1_961)).wrapping_add(z4 * F_1_175);
        let odd4 = (z3 * F_1_175).wrapping_add(z4 * (F_1_175 - F_0_390));
        let differences = [
            both(seven * -F_0_899, one * (F_1_501 - F_0_899), odd4),
            both(five * -F_2_562, three * (F_3_072 - F_2_562), odd3),
            both(five * (F_2_053 - F_2_562), three * -F_2_562, odd4),
            both(seven * (F_0_298 - F_0_899), one * -F_0_899, odd3),
        ];
        let rounded = |sum: i32| {
            let sum = sum.wrapping_add(1 << (SHIFT - 1)) >> SHIFT;
            sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
        };
        for nth in 0..4 {
            output[nth][lane] = rounded(sums[nth].wrapping_add(differences[nth]));
            output[7 - nth][lane] = rounded(sums[nth].wrapping_sub(differences[nth]));
        }
    }
    output
}
