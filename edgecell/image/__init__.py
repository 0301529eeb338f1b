"""Operations on pixels: preprocessing, scale, regions of a cell."""
