"""The paper's metrics (Sec. 4.2): estimators read pictures, plain functions compare what was asked for with what was found."""
